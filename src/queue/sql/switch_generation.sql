-- Sends new rows to the next generation of the ring, if that one has been truncated and
-- the current one is older than $1 seconds.
update postrider.generation
set cur = (cur + 1) % 4, live = live || ((cur + 1) % 4)::smallint, since[(cur + 1) % 4 + 1] = now(), switched_at = now()
where switched_at < now() - make_interval(secs => $1) and not ((cur + 1) % 4)::smallint = any (live)
returning cur
