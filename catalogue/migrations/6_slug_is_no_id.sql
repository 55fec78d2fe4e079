-- A slug that looks like an id would name two tenants wherever either may be said: none is given any more.
--
-- A trigger and no constraint: a tenant that has such a slug already must not keep the catalogue from being migrated, and
-- even a constraint that is NOT VALID would refuse each later change of its row, a suspension for one. What the data plane
-- does with such a tenant is in tenancy/context/lookups.ts. Which there are:
--   SELECT id, slug FROM tenantry.tenant WHERE slug ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
CREATE FUNCTION refuse_id_as_slug() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, tenantry AS $$
BEGIN
  RAISE EXCEPTION 'a slug must not look like an id' USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER slug_is_no_id BEFORE INSERT OR UPDATE OF slug ON tenant FOR EACH ROW
  WHEN (NEW.slug ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$') EXECUTE FUNCTION refuse_id_as_slug();
