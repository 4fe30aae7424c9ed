-- $1 tenant  $2 domain of from  $3 stream  $4 content  $5 send_at  $6 expires_at
-- $7 recipients  $8 payloads  $9 key hash  $10 body hash  $11 the caller's part of the answer
-- $12 positions (from 1) and $13 the forms under which the list may name who stands there
select status, message_id, accepted, suppressed, answer::text as answer
from postrider.submit($1, $2, $3, $4::text::json, $5, $6, $7, $8, $9, $10, $11::text::json, $12, $13)
