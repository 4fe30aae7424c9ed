-- Which of these forms the lists name, and for which streams. Arrays: $1 tenants, and of each
-- $2 the place (from 1) of its last form in $3. If there are hashes, they come first, and behind
-- them as many forms in the clear, tenant by tenant. Without a tenant: named on everyone's list.
select tenant_id, address, stream from postrider.suppressed($1, $2, $3)
