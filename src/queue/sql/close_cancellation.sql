update postrider.cancellation set done_at = now() where message_id = $1
