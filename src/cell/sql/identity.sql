select c.number, c.name,
       (select count(*) from postrider.tenant t where t.residence in ('here', 'leaving')) as tenants,
       (select count(*) from postrider.tenant t where t.residence not in ('here', 'gone')) as moving
from postrider.cell c
