-- What a product's own processes need of the catalogue: which tenants there are, where they live, what a suspension
-- leaves of them, and to hear at once when that changes.

-- Meaningful while the tenant is suspended.
ALTER TABLE tenant ADD COLUMN mode text NOT NULL DEFAULT 'open' CHECK (mode IN ('open', 'read-only', 'blocked'));

-- The lookup role is made by the bootstrap, before any migration. It sees these columns and nothing else.
GRANT USAGE ON SCHEMA tenantry TO tenantry_lookup;
GRANT SELECT (id, slug, plan, cell, state, mode, generation, system) ON tenant TO tenantry_lookup;
GRANT SELECT (tenant_id, store, version, sealed) ON credential TO tenantry_lookup;
GRANT SELECT (name, postgres_runtime, mongo, mongo_enforcement, redis) ON cell TO tenantry_lookup;

-- Each change is told by the tenant's id, and nothing more: everybody who may connect can listen.
--
-- A transaction that notifies takes a lock on the whole server while it commits, so only what somebody may have
-- cached is told: a tenant that is being made or has failed is kept by no cache for longer than an unknown one.
-- Admitting and provisioning, alone or in batches, therefore notify nothing.
CREATE FUNCTION tell_tenant_updated() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, tenantry AS $$
BEGIN
  PERFORM pg_notify('tenantry_tenant', o.id::text)
     FROM old_rows o LEFT JOIN new_rows n USING (id)
    WHERE o.state NOT IN ('pending', 'provisioning', 'failed')
      AND (n.id IS NULL
           OR (o.slug, o.plan, o.cell, o.state, o.mode, o.generation)
              IS DISTINCT FROM (n.slug, n.plan, n.cell, n.state, n.mode, n.generation));
  RETURN NULL;
END $$;

CREATE FUNCTION tell_tenant_deleted() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, tenantry AS $$
BEGIN
  PERFORM pg_notify('tenantry_tenant', id::text)
     FROM old_rows WHERE state NOT IN ('pending', 'provisioning', 'failed');
  RETURN NULL;
END $$;

-- A first password is nobody's to have cached; a later one takes the place of one that may be.
CREATE FUNCTION tell_credential_changed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, tenantry AS $$
BEGIN
  PERFORM pg_notify('tenantry_tenant', tenant_id::text)
     FROM (SELECT DISTINCT tenant_id FROM changed WHERE TG_OP = 'UPDATE' OR version > 1) told;
  RETURN NULL;
END $$;

CREATE TRIGGER tell_updated AFTER UPDATE ON tenant
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tell_tenant_updated();
CREATE TRIGGER tell_deleted AFTER DELETE ON tenant
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tell_tenant_deleted();
CREATE TRIGGER tell_inserted AFTER INSERT ON credential
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tell_credential_changed();
CREATE TRIGGER tell_updated AFTER UPDATE ON credential
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tell_credential_changed();
CREATE TRIGGER tell_deleted AFTER DELETE ON credential
  REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tell_credential_changed();
