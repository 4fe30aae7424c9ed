-- $1 seconds. What no window reaches any more.
delete from postrider.health_bucket where minutes = 60 and at < now() - make_interval(secs => $1)
