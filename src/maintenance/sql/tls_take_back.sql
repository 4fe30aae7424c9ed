-- $1 day  $2 domain  $3 collector
update postrider.tls_report set done = array_remove(done, $3) where day = $1 and domain = $2
