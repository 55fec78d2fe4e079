/** The page about configuration says what the code reads, and nothing else. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { VARIABLES, type VariableName } from '../../domain/config.js';
import { rowsOfTable, root } from './support/pages.js';

const page = readFileSync(path.join(root, 'docs', 'configuration.md'), 'utf8');
const rows = rowsOfTable(page, 'variable', 'default', 'secret', 'read by');
const names = Object.keys(VARIABLES) as VariableName[];

test('it names every variable, once, and no other', () => {
  expect(rows.map(([name]) => name).toSorted()).toEqual(names.toSorted());
});

test.each(names)('%s has its default, its secrecy and its purpose', (name) => {
  const [schema, purpose, secret] = VARIABLES[name];
  const row = rows.find(([one]) => one === name) ?? [];
  const parsed = schema.safeParse(undefined);
  const fallback = !parsed.success ? 'required' : parsed.data === undefined ? 'none' : String(parsed.data);
  expect(row.slice(1, 3)).toEqual([fallback, secret ? 'yes' : 'no']);
  // The page may say more than the code does, and never something else.
  const words = (text: string) => text.replaceAll('`', '').match(/\w+/g) ?? [];
  expect(words(row[4] ?? '')).toEqual(expect.arrayContaining(words(purpose)));
});

test('it says which process reads each', () => {
  const sources = {
    api: read('api/main.ts'),
    worker: read('worker/main.ts'),
    migrate: read('catalogue/main.ts'),
    local: filesIn('local').map(read).join('\n'),
  };
  for (const [name = '', , , readers] of rows) {
    const found = Object.entries(sources).flatMap(([process, source]) =>
      new RegExp(`\\b${name}\\b`).test(source) ? [process] : [],
    );
    expect([name, readers]).toEqual([name, found.join(', ')]);
  }
});

test('whatever else it names is read by the local stack or the tests', () => {
  const elsewhere = [...filesIn('local'), ...filesIn('test/support')].map(read).join('\n');
  const known = new Set<string>(names);
  for (const [name] of page.matchAll(/TENANTRY_[A-Z_]*[A-Z]\b/g))
    expect([name, known.has(name) || elsewhere.includes(`'${name}'`)]).toEqual([name, true]);
});

const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');

const filesIn = (folder: string): string[] =>
  readdirSync(path.join(root, folder))
    .filter((file) => file.endsWith('.ts'))
    .map((file) => path.join(folder, file));
