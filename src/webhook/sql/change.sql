-- $1 tenant  $2 endpoint  $3 URL  $4 description  $5 whether kinds change, $6 to which
-- $7 batch  $8 requests at once  $9 whether the rate changes, $10 to what  $11 enabled  $12 whose hand
update postrider.webhook
set url = coalesce($3, url), description = coalesce($4, description),
    kinds = case when $5 then $6::smallint[] else kinds end,
    batch = coalesce($7, batch), in_flight = coalesce($8, in_flight),
    per_second = case when $9 then $10::int else per_second end,
    state = case $11 when true then 'active' when false then 'disabled' else state end,
    disabled_by = case $11 when true then null when false then $12 else disabled_by end,
    disabled_at = case $11 when true then null when false then now() else disabled_at end,
    -- Another address, or another chance: it is tried at once.
    failures = case when $11 or $3 is not null then 0 else failures end,
    failing_since = case when $11 or $3 is not null then null else failing_since end,
    next_at = case when $11 or $3 is not null then now() else next_at end,
    hold = hold + 1, holder = null, held_until = null
where tenant_id = $1 and webhook_id = $2
