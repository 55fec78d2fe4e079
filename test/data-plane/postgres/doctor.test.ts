/**
 * The doctor of a cell's PostgreSQL: each way by which one tenant could reach another, or learn of one, is made in a real
 * cell; the doctor finds it and nothing else, and what it proposes mends it.
 */
import { escapeIdentifier } from 'pg';
import { ROLES } from '../../../catalogue/bootstrap.js';
import supportDesk from '../../../manifest/support-desk.js';
import { doctorPostgres } from '../../../tenancy/index.js';
import { forGood, inShort, mendAll, openWard, type Surgeon, undone, type Ward } from './doctor-support.js';
import { SOUND } from './doctor-sound.js';
import { KEYS, POLICIES, TABLES, type Way } from './doctor-ways.js';
import { CODE } from './doctor-ways-code.js';
import { ALL_ROLES, GRANTS, OWNERS, SERVER, SYSTEM } from './doctor-ways-rights.js';
import { connect, type TestCell } from './support.js';

let ward: Ward;
let cell: TestCell;
beforeAll(async () => {
  ward = await openWard();
});
afterAll(() => ward.close());

describe('the doctor of a cell', () => {
  beforeAll(async () => {
    cell = await ward.cell();
  });
  afterAll(async () => {
    expect(await forGood(cell).examine()).toEqual([]);
    await cell.close();
  });

  it('finds nothing in a sound one, as the superuser and as the owner', async () => {
    expect(await forGood(cell).examine()).toEqual([]);
    const owner = await connect(cell.url('owner'));
    const findings = await doctorPostgres(owner, cell.manifest);
    await owner.end();
    expect(findings).toEqual([]);
  });

  it.each([...TABLES, ...KEYS, ...POLICIES, ...CODE, ...GRANTS, ...SYSTEM, ...OWNERS, ...ALL_ROLES])(
    '$way: is found and nothing else, and what is proposed mends it',
    (way) => undone(cell, (surgeon) => expectFoundAndMended(surgeon, way)),
  );

  it.each(SOUND)('$way: is no finding', ({ open }) =>
    undone(cell, async (surgeon) => {
      await surgeon.run(await filledIn(open));
      expect(inShort(await surgeon.examine())).toEqual([]);
    }),
  );

  it('finds a right to what PostgreSQL keeps the long values of a table in', () =>
    undone(cell, async (surgeon) => {
      const { rows } = await cell.admin.query<{ toast: string }>(
        `SELECT reltoastrelid::regclass::text AS toast FROM pg_class WHERE oid = 'app.messages'::regclass`,
      );
      const toast = rows[0]?.toast ?? '';
      const open = `GRANT SELECT ON ${toast} TO ${ROLES.runtime}`;
      await expectFoundAndMended(surgeon, {
        way: 'toast',
        open,
        found: [`grant ${toast}: server-table-out-of-reach`],
      });
    }));

  it.each(SERVER)('$way: is found and nothing else, and what is proposed mends it', (way) =>
    expectFoundAndMended(forGood(cell), way),
  );
});

describe('the doctor of a cell, whose proposals are carried out', () => {
  beforeEach(async () => {
    cell = await ward.cell();
  });
  afterEach(() => cell.close());

  it('quotes names that are SQL themselves', async () => {
    const name = `od"d'; DROP TABLE app.messages CASCADE; -- $$ é`;
    const odd = escapeIdentifier(name);
    const oddIndex = 'x" ON app.messages USING btree (';
    await cell.admin.query(`
      CREATE ROLE ${odd};
      ALTER TABLE app.messages ADD COLUMN ${odd} int GENERATED ALWAYS AS IDENTITY;
      ALTER TABLE app.messages ADD CONSTRAINT ${escapeIdentifier(`${name} key`)} UNIQUE (${odd});
      CREATE UNIQUE INDEX ${escapeIdentifier(oddIndex)} ON app.messages (${odd}, lower(body));
      CREATE TYPE app.${escapeIdentifier(`${name} type`)} AS (i int);
      CREATE FUNCTION app.${odd}(app.${escapeIdentifier(`${name} type`)}) RETURNS int LANGUAGE sql SECURITY DEFINER
        AS 'SELECT 1';
      CREATE FUNCTION public.${odd}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN new; END';
      CREATE TRIGGER ${odd} BEFORE INSERT ON app.messages FOR EACH ROW EXECUTE FUNCTION public.${odd}();
      CREATE RULE ${odd} AS ON DELETE TO app.messages DO ALSO NOTHING;
      CREATE POLICY ${odd} ON app.messages USING (true);
      GRANT SELECT ON app.messages TO ${odd};
      CREATE TABLE app.${odd} (tenant_id uuid); GRANT SELECT ON app.${odd} TO PUBLIC, ${odd};
      CREATE VIEW app.${escapeIdentifier(`${name} view`)} AS SELECT 1 AS one;
      GRANT SELECT ON app.${escapeIdentifier(`${name} view`)} TO ${ROLES.runtime};
      CREATE SEQUENCE app.${escapeIdentifier(`${name} seq`)};
      GRANT ALL ON app.${escapeIdentifier(`${name} seq`)} TO ${ROLES.runtime};
      CREATE SCHEMA ${odd}; CREATE TABLE ${odd}.t (); GRANT ALL ON SCHEMA ${odd} TO ${ROLES.runtime};
      ALTER DEFAULT PRIVILEGES FOR ROLE ${odd} IN SCHEMA ${odd} GRANT SELECT ON TABLES TO ${ROLES.runtime};
      GRANT ${odd} TO ${ROLES.runtime};`);
    const findings = await forGood(cell).examine();
    expect(inShort(findings)).toEqual([
      `role ${ROLES.runtime}: role-member-of-none`,
      `table app.${odd}: undeclared-table-locked`,
      `column app.messages.${odd}: no-shared-counter`,
      `constraint app.messages.${escapeIdentifier(`${name} key`)}: unique-tenant-first`,
      `index app.${escapeIdentifier(oddIndex)}: unique-tenant-first`,
      `policy app.messages.${odd}: policy-of-ours-only`,
      `view app.${escapeIdentifier(`${name} view`)}: view-security-invoker`,
      `function app.${odd}(app.${escapeIdentifier(`${name} type`)}): function-security-invoker`,
      `trigger app.messages.${odd}: trigger-security-invoker`,
      `rule app.messages.${odd}: no-rules`,
      'grant app.messages: rights-as-made',
      `sequence app.${escapeIdentifier(`${name} seq`)}: sequence-out-of-reach`,
      `schema ${odd}: schemas-of-the-manifest-only`,
      `grant TABLES of ${odd} IN SCHEMA ${odd}: no-default-rights`,
    ]);
    await mendAll(forGood(cell), findings);
    await cell.admin.query(`DROP OWNED BY ${odd}; DROP ROLE ${odd}`);
  });

  it('mends what takes more than one examination', async () => {
    await cell.admin.query(`
      ALTER TABLE app.messages DROP COLUMN tenant_id CASCADE;
      DROP TABLE app.customers, tenantry.context_key CASCADE;`);
    const findings = await forGood(cell).examine();
    expect(inShort(findings)).toContain('column app.messages.tenant_id: tenant-column-present');
    await mendAll(forGood(cell), findings);
    const { rows } = await cell.admin.query(
      `SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'app'`,
    );
    expect(rows).toEqual([{ tableowner: ROLES.owner }]);
  });

  it('mends a tenant_id of another type', async () => {
    await cell.admin.query(`
      ALTER TABLE app.messages DROP CONSTRAINT messages_tenant_id_conversation_id_fkey;
      DROP POLICY tenant_select ON app.messages; DROP POLICY tenant_insert ON app.messages;
      DROP POLICY tenant_update ON app.messages; DROP POLICY tenant_delete ON app.messages;
      DROP POLICY purge_select ON app.messages; DROP POLICY purge_delete ON app.messages;
      ALTER TABLE app.messages ALTER COLUMN tenant_id TYPE text;
      CREATE POLICY tenant_select ON app.messages USING (tenant_id = current_setting('app.tenant_id'));`);
    const findings = await forGood(cell).examine();
    expect(inShort(findings)).toContain('column app.messages.tenant_id: tenant-column-uuid');
    await mendAll(forGood(cell), findings);
  });

  it('makes a role anew, and takes what it had from whom it has become', async () => {
    await cell.admin.query(`ALTER ROLE ${ROLES.purge} RENAME TO gone`);
    const findings = await forGood(cell).examine();
    expect(inShort(findings)).toContain(`role ${ROLES.purge}: role-present`);
    await mendAll(forGood(cell), findings);
    await cell.admin.query(
      `DROP OWNED BY ${ROLES.purge}; DROP ROLE ${ROLES.purge}; ALTER ROLE gone RENAME TO ${ROLES.purge}`,
    );
  });

  it('says why where no SQL can mend', async () => {
    await cell.admin.query('DROP TABLE app.messages; CREATE VIEW app.messages AS SELECT 1 AS one');
    const findings = await forGood(cell).examine();
    expect(inShort(findings)).toEqual(['view "app"."messages": declared-table-present']);
    expect(findings[0]).toMatchObject({
      mend: undefined,
      detail: expect.stringContaining('No SQL') as string,
    });
    await cell.admin.query(`
      DROP VIEW app.messages; CREATE TYPE app.asked AS (i int);
      CREATE FUNCTION app.compared(app.asked, app.asked) RETURNS int LANGUAGE plpgsql
        AS $$ BEGIN SET LOCAL app.tenant_id = ''; RETURN 0; END $$;
      CREATE OPERATOR CLASS app.asked_ops FOR TYPE app.asked USING btree
        AS FUNCTION 1 app.compared(app.asked, app.asked);
      CREATE OR REPLACE FUNCTION pg_catalog.timeofday() RETURNS text LANGUAGE plpgsql
        AS $$ BEGIN SET LOCAL app.tenant_id = ''; RETURN ''; END $$;
      CREATE OR REPLACE FUNCTION pg_catalog.age(timestamptz) RETURNS interval LANGUAGE sql
        AS $$ SET LOCAL app.tenant_id = ''; SELECT interval '1 day' $$`);
    const others = (await forGood(cell).examine()).slice(1);
    expect(inShort(others)).toEqual([
      'function app.compared(app.asked,app.asked): function-keeps-the-tenant',
      'function pg_catalog.age(timestamp with time zone): built-in-as-made',
      'function pg_catalog.timeofday(): built-in-as-made',
    ]);
    for (const { mend, detail } of others)
      expect([mend, detail]).toEqual([undefined, expect.stringContaining('No SQL')]);
  });

  it('holds a hardened cell to what it is made of', async () => {
    const { hardened, ...postgres } = supportDesk.postgres;
    const own = await ward.cell({ ...supportDesk, postgres: { ...postgres, hardened: !hardened } });
    expect(await forGood(own).examine()).toEqual([]);
    const soft = await forGood({ ...own, manifest: supportDesk }).examine();
    expect(inShort(soft)).toEqual(['policy tenantry.gate.own_gate: policy-as-made']);
    await own.admin.query(
      `ALTER POLICY own_gate ON tenantry.gate USING (tenant_id = current_setting('app.tenant_id')::uuid)`,
    );
    const findings = await forGood(own).examine();
    expect(inShort(findings)).toEqual(['policy tenantry.gate.own_gate: policy-as-made']);
    await mendAll(forGood(own), findings);
    await own.close();
  });
});

async function expectFoundAndMended(surgeon: Surgeon, { open, found }: Way): Promise<void> {
  await surgeon.run(await filledIn(open));
  const findings = await surgeon.examine();
  try {
    expect(inShort(findings)).toEqual(await Promise.all(found.map(filledIn)));
  } finally {
    expect(await mendAll(surgeon, findings)).toBe(1);
  }
}

/** With the name of the cell's database. */
async function filledIn(text: string): Promise<string> {
  if (!text.includes('$database')) return text;
  const { rows } = await cell.admin.query<{ name: string }>('SELECT current_database() AS name');
  return text.replaceAll('$database', rows[0]?.name ?? '');
}
