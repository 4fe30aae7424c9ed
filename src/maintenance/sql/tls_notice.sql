-- $1 tenant  $2 domain of from  $3 stream  $4 content  $5 recipient  $6 key
select postrider.notice($1, $2, $3, $4::text::json, $5, $6)
