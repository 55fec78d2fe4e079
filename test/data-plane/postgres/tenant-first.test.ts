/** The tables as they are made: every key begins with the tenant, so none says anything of another's rows. */
import { openCell } from './support.js';

const COLUMNS = (of: string): string =>
  `ARRAY(SELECT a.attname::text FROM unnest(${of}.keys) WITH ORDINALITY AS key(number, place)
           JOIN pg_attribute a ON a.attrelid = ${of}.relation AND a.attnum = key.number ORDER BY key.place)`;

it('every primary, unique and foreign key begins with the tenant, on both of its sides', async () => {
  const cell = await openCell();
  try {
    const { rows } = await cell.admin.query<{ kind: string; columns: string[]; parents: string[] }>(
      `SELECT c.contype AS kind, ${COLUMNS('own')} AS columns, ${COLUMNS('parent')} AS parents
         FROM pg_constraint c,
              LATERAL (SELECT c.conrelid AS relation, c.conkey AS keys) AS own,
              LATERAL (SELECT c.confrelid AS relation, c.confkey AS keys) AS parent
        WHERE c.connamespace = 'app'::regnamespace AND c.contype IN ('p', 'u', 'f')
        ORDER BY c.conrelid::regclass::text, c.contype::text`,
    );
    expect(rows).toEqual([
      { kind: 'f', columns: ['tenant_id', 'thing_id'], parents: ['tenant_id', 'id'] },
      { kind: 'p', columns: ['tenant_id', 'id'], parents: [] },
      { kind: 'p', columns: ['tenant_id', 'id'], parents: [] },
      { kind: 'u', columns: ['tenant_id', 'label'], parents: [] },
    ]);
  } finally {
    await cell.close();
  }
});

it('so do the indexes', async () => {
  const cell = await openCell();
  try {
    const { rows } = await cell.admin.query<{ first: string }>(
      `SELECT pg_get_indexdef(i.indexrelid, 1, true) AS first FROM pg_index i
         JOIN pg_class t ON t.oid = i.indrelid WHERE t.relnamespace = 'app'::regnamespace`,
    );
    expect(rows.length).toBeGreaterThan(0);
    for (const { first } of rows) expect(first).toBe('tenant_id');
  } finally {
    await cell.close();
  }
});
