-- $1 how many
select domain from postrider.sts_policy
where fetched_at <= now() - interval '1 day' or now() - fetched_at >= expires_at - now()
-- Some cannot be fetched and stay old: they must not be in the way of the others.
order by random() limit $1
