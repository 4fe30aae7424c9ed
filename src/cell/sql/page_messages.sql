-- Messages of the tenant $1 after $2, at most $3 and (but for the first) at most 8 MB of content.
select message_id, accepted, line from (
  select m.message_id, m.accepted, row_to_json(m)::text as line,
         sum(octet_length(m.content::text)) over (order by m.message_id) - octet_length(m.content::text) as before
  from (select * from postrider.message where tenant_id = $1 and message_id > $2 order by message_id limit $3) m) x
where before < 8388608 order by message_id
