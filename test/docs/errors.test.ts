/** The page about errors is the table in the code. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { ERRORS } from '../../domain/errors.js';
import { root, rowsOfTable } from './support/pages.js';

const rows = rowsOfTable(
  readFileSync(path.join(root, 'docs', 'errors.md'), 'utf8'),
  'code',
  'status',
  'retryable',
  'message',
);

test('it has every code with its status, whether it is retryable and its message, in the order of the code', () => {
  expect(rows.map((row) => row.slice(0, 4))).toEqual(
    Object.entries(ERRORS).map(([code, { status, retryable, message }]) => [
      code,
      String(status),
      retryable ? 'yes' : 'no',
      message,
    ]),
  );
});

test('it says of every code what to do', () => {
  for (const [code, , , , advice = ''] of rows)
    expect([code, advice]).toEqual([code, expect.stringMatching(/[\w`)]\.$/)]);
});
