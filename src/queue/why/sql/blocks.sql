-- $1 tenant  $2 pool  $3 stream  $4 lane: what holds it back, for the tenant's eyes.
select case scope when 'T' then 'tenant' when 'S' then 'stream' when 'P' then 'mailbox-provider' else 'lane' end as scope,
       reason, until
from postrider.lane_blocks($1, $2, $3, $4)
