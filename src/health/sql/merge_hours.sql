-- Minutes that lie back some hours become part of their hours.
with old as (
  delete from postrider.health_bucket
  where minutes = 1 and at < date_trunc('hour', now(), 'UTC') - interval '2 hours'
  returning tenant_id, stream, mailbox_provider, at, sent, bounced, refused, complained
)
insert into postrider.health_bucket as b
  (tenant_id, stream, mailbox_provider, minutes, at, sent, bounced, refused, complained)
select tenant_id, stream, mailbox_provider, 60, date_trunc('hour', at, 'UTC'), sum(sent), sum(bounced), sum(refused),
       sum(complained)
from old group by 1, 2, 3, 4, 5
order by 1, 2, 3, 4, 5
on conflict (tenant_id, stream, minutes, at, mailbox_provider) do update
set sent = b.sent + excluded.sent, bounced = b.bounced + excluded.bounced,
    refused = b.refused + excluded.refused, complained = b.complained + excluded.complained
