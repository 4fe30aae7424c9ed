-- $1 tenant  $2 message
select postrider.cancel_message($1, $2)
