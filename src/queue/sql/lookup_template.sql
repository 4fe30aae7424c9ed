-- $1 message
-- The content without its attachments, which can be large and are not needed to check recipients.
select (select json_object_agg(e.key, e.value) from json_each(m.content) e where e.key <> 'attachments')::text
from postrider.message m
where m.message_id = $1
