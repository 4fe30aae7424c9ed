-- The key-encryption key has versions (docs/adr/0034-key-versions.md).

-- Under which version of the installation's key something was sealed; null: it is no seal.
-- src/tenant/seal.rs says the same.
create function postrider.sealed_under(sealed bytea) returns int
language sql immutable parallel safe strict as $$
  select case when octet_length(sealed) < 4 then null else
    case get_byte(sealed, 0)
      when 1 then 1
      when 2 then (get_byte(sealed, 1) << 8) | get_byte(sealed, 2) end end
$$;
