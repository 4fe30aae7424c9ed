-- What comes back by mail: raw reports, and what they say in the history of a delivery.

-- Reports as they came, stored before they are acknowledged. Without a tenant: whose it is
-- says the delivery, and the API does not see them.
create table postrider.inbound_report(
  report_id   bigint primary key default postrider.mint_id(),
  received_at timestamptz not null default now(),
  purpose     text not null check (purpose in ('return', 'complaint', 'unsubscribe')),
  job_id      bigint,                          -- the delivery whose address it came to
  sender      text not null,                   -- envelope sender; '' is the null sender
  peer        text not null,
  raw         bytea not null,
  tries       smallint not null default 0,
  taken_at    timestamptz,
  done_at     timestamptz,
  kind        text,                            -- dsn, bounce, complaint, auto_reply, ordinary, unsubscribe
  outcome     text check (outcome in ('applied', 'evidence', 'unmatched', 'ignored', 'failed')),
  findings    json);
create index inbound_report_open on postrider.inbound_report(report_id) where done_at is null;
create index inbound_report_done on postrider.inbound_report(done_at) where done_at is not null;
create index inbound_report_job on postrider.inbound_report(job_id) where job_id is not null;
select postrider.keep_small('postrider.inbound_report', 'queue');
grant select, insert, update, delete on postrider.inbound_report to postrider_worker;
grant select on postrider.inbound_report to postrider_operator;

-- A kind of history that changes no end: 9 reported, what somebody said of the mail later.
-- Not checked again for what is there: it was checked more strictly.
alter table postrider.attempt drop constraint attempt_kind_check;
alter table postrider.attempt add constraint attempt_kind_check check (kind between 1 and 9) not valid;

-- The domain of the envelope senders of this sending domain's mail, in place of the installation's.
alter table postrider.sending_domain add column return_path text
  check (return_path ~ '^[a-z0-9]([a-z0-9.-]{0,178})[a-z0-9]$');
