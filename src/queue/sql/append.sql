-- $1 tenant  $2 message  $3 recipients  $4 payloads  $5 upload  $6 chunk  $7 digest
select status, accepted, suppressed
from postrider.append_recipients($1, $2, $3, $4, $5, $6, $7)
