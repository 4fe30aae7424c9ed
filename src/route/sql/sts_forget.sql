delete from postrider.sts_policy where expires_at <= now()
