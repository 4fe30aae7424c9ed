-- $1 tenant  $2 endpoint, or null for all
select w.*,
  (select count(*) from (
     select 1 from postrider.event e
     where e.tenant_id = w.tenant_id and (e.xid, e.event_id) > (w.at_xid, w.at_event) limit 10000) p) as pending,
  (select count(*) from postrider.webhook_retry r where r.webhook_id = w.webhook_id) as retries
from postrider.webhook w
where w.tenant_id = $1 and ($2::bigint is null or w.webhook_id = $2)
order by w.webhook_id
