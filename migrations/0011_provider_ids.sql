-- Ids that providers give the mails they take: by them, their reports speak of a delivery.
-- Only deliveries by a provider have one, so neither the column nor the index costs the others
-- anything.
alter table postrider.attempt add column provider_id text;
create index attempt_provider on postrider.attempt(provider_id) where provider_id is not null;
