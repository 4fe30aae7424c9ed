-- $1 keys whose pace is over, $2 after how many seconds without a word. What changed since stays.
delete from postrider.pace
where key = any ($1)
  and (state ->> 'refused_at')::float8 < extract(epoch from clock_timestamp()) - $2
