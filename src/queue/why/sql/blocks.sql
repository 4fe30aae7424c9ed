-- $1 tenant  $2 pool  $3 stream  $4 lane: what holds it back, for the tenant's eyes.
select scope, reason, since, until from postrider.lane_blocks($1, $2, $3, $4)
