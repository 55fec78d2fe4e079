/** Where the container set-up stands, and what of the repository its build may see. */
import { readFileSync } from 'node:fs';
import path from 'node:path';

export const root = path.join(__dirname, '..', '..');

/** What .dockerignore lets into the build: it forbids all, then names exceptions. */
export function allowedInBuild(): string[] {
  const rules = readFileSync(path.join(root, '.dockerignore'), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  expect(rules[0]).toBe('*');
  return rules.slice(1).map((rule) => rule.replace(/^!/, ''));
}
