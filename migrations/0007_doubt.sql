-- What may have been sent although no outcome is recorded, exactly.

-- Deliveries that a session is about to send: one row per group commit for many of them,
-- durable before the final dot of any. A lease of a dead session that has an intent is in
-- doubt; one without was never sent. Rows go when all their deliveries are settled, with
-- the next insert of their session.
create table postrider.intent(
  session_id bigint not null,
  batch      bigint not null,                  -- counted by the session
  job_ids    bigint[] not null,
  holds      int[] not null,                   -- same order
  at         timestamptz not null default now(),
  primary key (session_id, batch));
-- At most 500 deliveries a row (12 bytes each) fit into a page: nothing is compressed or moved out.
alter table postrider.intent alter column job_ids set storage plain, alter column holds set storage plain;
-- Hundreds of rows a second come and go, and few are alive at once.
alter table postrider.intent set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
  autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);

-- Outcomes of a worker that had lost its lease by the time it knew them: evidence about
-- deliveries in doubt, and nothing more. hold: the claim it was working for.
create table postrider.late_outcome(
  tenant_id bigint not null,
  job_id    bigint not null,
  hold      int not null,
  kind      smallint not null check (kind in (1, 2)),  -- as in attempt
  code      smallint,
  detail    json,
  at        timestamptz not null default now(),
  primary key (job_id, hold));
create index late_outcome_at on postrider.late_outcome(at);
select postrider.protect('postrider.late_outcome');

-- Attempts in doubt are few and looked for: `postrider doubt list`.
create index attempt_doubt on postrider.attempt(job_id) where in_doubt;

grant select, insert, delete on postrider.intent to postrider_worker;
grant select, insert, delete on postrider.late_outcome to postrider_worker;
grant select on postrider.intent to postrider_operator;
grant select, delete on postrider.late_outcome to postrider_operator;
