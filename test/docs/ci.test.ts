/** What CI does not run again on the stricter MongoDB server cannot come out differently there. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { root } from './support/pages.js';

const again = execFileSync(path.join(root, '.ci', 'mongo-tests'), { encoding: 'utf8' })
  .trim()
  .split('\n');
const text = (file: string): string => readFileSync(path.join(root, file), 'utf8');
const sources = (folder: string): string[] =>
  readdirSync(path.join(root, folder), { encoding: 'utf8', recursive: true })
    .map((file) => path.join(folder, file))
    .filter((file) => file.endsWith('.ts'));
const tests = (folder: string): string[] => sources(folder).filter((file) => file.endsWith('.test.ts'));

test('whatever is about MongoDB is run again', () => {
  expect(again).toEqual(expect.arrayContaining(tests('test/data-plane/mongo')));
  expect(again).toEqual(expect.arrayContaining(tests('test/provisioning')));
  expect(again.filter((file) => file.startsWith('test/faults/mongo-'))).toHaveLength(2);
});

test('what names MongoDB and is left out without a word about it reaches no server', () => {
  for (const file of ['compose', 'docs', 'domain', 'keys', 'worker'].flatMap((folder) =>
    sources(`test/${folder}`),
  ))
    expect([file, text(file)]).toEqual([
      file,
      expect.not.stringMatching(/from '.*\/(local|support)\/(world|servers|stack|mongo)(\.js)?'/),
    ]);
});

test('the API reaches no store', () => {
  for (const file of sources('api'))
    expect([file, text(file)]).toEqual([
      file,
      expect.not.stringMatching(
        /from '(mongodb|ioredis|pg|(\.\.\/)+(tenancy|activities|workflows|worker)\/.*)'/,
      ),
    ]);
});

test('tests of the context have stores in name only', () => {
  for (const file of sources('test/data-plane/context'))
    expect([file, text(file)]).toEqual([
      file,
      expect.not.stringMatching(/from 'mongodb'|productStores|tenancy\/mongo/),
    ]);
});
