-- $1 message
-- The content without its attachments, which can be large and are not needed to check recipients.
select (select json_object_agg(e.key, e.value) from json_each(m.content) e where e.key <> 'attachments')::text as content,
  s.name as stream
from postrider.message m join postrider.stream s using (stream_id)
where m.message_id = $1
