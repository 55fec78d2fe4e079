/** What the pages point at is there, and what they quote is what the code says. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { SEARCH_ATTRIBUTES } from '../../domain/search-attributes.js';
import { isErrorCode } from '../../domain/errors.js';
import { LEGAL_MOVES, type TenantState } from '../../domain/tenant-state.js';
import { pages, root, rowsOfTable } from './support/pages.js';

const text = (page: string): string => readFileSync(path.join(root, page), 'utf8');
const operations = text('docs/operations.md');

test.each(pages())('every link in %s leads somewhere', (page) => {
  for (const [, target = ''] of text(page).matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^https?:/.test(target)) continue;
    const [file = '', anchor] = target.split('#');
    const there = file === '' ? page : path.join(path.dirname(page), file);
    expect([target, existsSync(path.join(root, there))]).toEqual([target, true]);
    if (anchor !== undefined) expect([target, anchorsOf(text(there)).has(anchor)]).toEqual([target, true]);
  }
});

test.each(pages())('every file of the project that %s names is there', (page) => {
  const rooms = readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !['node_modules', 'dist'].includes(entry.name))
    .map((entry) => entry.name.replaceAll('.', String.raw`\.`));
  for (const [, file = ''] of text(page).matchAll(
    new RegExp(`\`((?:${rooms.join('|')})/[\\w./-]*)\``, 'g'),
  )) {
    // Made when it runs.
    if (/^(\.tenantry|docker\/\.secrets)\//.test(file)) continue;
    expect([file, existsSync(path.join(root, file))]).toEqual([file, true]);
  }
});

test.each(pages())('every npm script that %s names is one', (page) => {
  const { scripts } = JSON.parse(text('package.json')) as { scripts: Record<string, string> };
  for (const [, script = ''] of text(page).matchAll(/npm run ([\w:]+)/g))
    expect(scripts).toHaveProperty([script]);
});

test('each invariant of the threat model names a test', () => {
  const rows = rowsOfTable(text('docs/threat-model.md'), '', 'invariant', 'shown by').filter(
    (row) => row[0] !== '',
  );
  expect(rows.map(([id]) => id)).toEqual(rows.map((_, i) => `I${i + 1}`));
  for (const [id, , shownBy = ''] of rows)
    expect([id, shownBy]).toEqual([id, expect.stringMatching(/test\/[\w/-]+\.test\.ts/)]);
});

test('the states of a tenant and their moves are those of the code', () => {
  const rows = rowsOfTable(text('docs/architecture.md'), 'from', 'to');
  const moves = rows.map(([from = '', to = '']) => [
    from,
    [...to.matchAll(/`(\w+)`|^(\w+)$/g)]
      .map(([, quoted, plain]) => quoted ?? plain)
      .filter((one) => one !== 'none'),
  ]);
  expect(Object.fromEntries(moves)).toEqual(
    LEGAL_MOVES satisfies Record<TenantState, readonly TenantState[]>,
  );
});

test('the tables of the catalogue are those that the migrations make', () => {
  const folder = path.join(root, 'catalogue', 'migrations');
  const made = readdirSync(folder).flatMap((file) =>
    [...readFileSync(path.join(folder, file), 'utf8').matchAll(/CREATE TABLE (\w+)/g)].map(
      ([, table]) => table,
    ),
  );
  const rows = rowsOfTable(text('docs/architecture.md'), 'table', 'a row is', 'holds');
  expect(rows.map(([table]) => table).toSorted()).toEqual(made.toSorted());
});

test('the metrics are those that the processes have', () => {
  const source = ['api/metrics.ts', 'worker/health.ts', 'worker/breach-alarm.ts'].map(text).join('\n');
  const made = [...source.matchAll(/'(tenantry_\w+)'/g)].map(([, name]) => name);
  expect(
    rowsOfTable(operations, 'name', 'kind')
      .map(([name]) => name)
      .toSorted(),
  ).toEqual(made.toSorted());
});

test('the search attributes are those that runs carry', () => {
  const cells = rowsOfTable(operations, 'attribute', 'on').map(([name = '']) => name);
  expect(cells.flatMap((cell) => cell.match(/\w+/g) ?? []).toSorted()).toEqual(SEARCH_ATTRIBUTES.toSorted());
});

test('what Temporal is said to show is what the workflows say', () => {
  const source = ['provision-tenant.ts', 'provision-batch.ts']
    .map((file) => text(`workflows/${file}`))
    .join('\n');
  for (const [says = ''] of rowsOfTable(operations, 'they say', 'meanwhile')) {
    // Up to the first word that stands for something else.
    const fixed = says.split(/failed: CODE|CODE|STORE|\.\.\./).find((part) => part !== '') ?? '';
    expect([says, source.includes(fixed.trim())]).toEqual([says, true]);
  }
});

test('an error code is named only if there is one', () => {
  for (const page of pages())
    for (const [, code = ''] of text(page).matchAll(/`([A-Z]+(?:_[A-Z]+)+)`/g))
      if (!/^(TENANTRY_|VARIABLES|LEGAL_MOVES|NAME_FILE|XDG_|IS_SANDBOX)/.test(code))
        expect([page, code, isErrorCode(code)]).toEqual([page, code, true]);
});

test.each([
  ['## Provisioning', /^provisioning\.ts$/],
  ['## The data plane', /^data-plane-/],
])('the goals of the benchmarks are those that it measures against: %s', (chapter, suites) => {
  const folder = 'bench/suites';
  const source = readdirSync(path.join(root, folder))
    .filter((file) => suites.test(file))
    .map((file) => text(`${folder}/${file}`))
    .join('\n');
  const [, page = ''] = text('docs/benchmarks.md').split(chapter);
  for (const [key = '', , goal = ''] of rowsOfTable(page, 'key in the JSON', 'what it is')) {
    const [, is, value] =
      new RegExp(`${key}: figure\\([^;]*?\\{\\s*is: '(.=)',\\s*value: ([\\d.]+),?\\s*\\}`).exec(source) ?? [];
    expect([key, goal]).toEqual([key, `${is} ${value}`]);
  }
});

/** As GitHub makes them: lower case, punctuation gone, spaces to hyphens. */
function anchorsOf(page: string): Set<string> {
  return new Set(
    [...page.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    ),
  );
}
