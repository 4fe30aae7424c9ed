-- $1 name: the tenant's row in one cell, whatever stage of a move it is in.
select tenant_id, residence, bound_for from postrider.tenant where name = $1
