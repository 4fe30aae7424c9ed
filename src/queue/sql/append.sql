-- $1 tenant  $2 message  $3 recipients  $4 payloads  $5 upload  $6 chunk  $7 digest
-- $8 positions (from 1) and $9 the forms under which the list may name who stands there
select status, accepted, suppressed
from postrider.append_recipients($1, $2, $3, $4, $5, $6, $7, $8, $9)
