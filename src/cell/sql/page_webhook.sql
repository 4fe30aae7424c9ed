-- $1 tenant  $2 after  $3 most. In nobody's hands; its cursor goes along with the events.
select webhook_id::text as after,
       (to_jsonb(x) || jsonb_build_object('at_xid', greatest(x.at_xid, -9223090561878065152) - 281474976710656,
                                          'holder', null, 'held_until', null))::text as line
from postrider.webhook x
where tenant_id = $1 and webhook_id > coalesce(nullif($2, ''), '-1')::bigint order by webhook_id limit $3
