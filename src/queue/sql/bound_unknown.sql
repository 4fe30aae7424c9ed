-- Keeps the $1 that were seen last.
delete from postrider.unknown_reply where (stage, code, shape) in (
  select stage, code, shape from postrider.unknown_reply order by last_seen desc, stage, code, shape offset $1)
