/** The image of the processes: what it is built from, and what it runs as. No engine builds it here. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { allowedInBuild, root } from './support.js';

describe('the image', () => {
  const dockerfile = readFileSync(path.join(root, 'Dockerfile'), 'utf8');

  test('is built in stages on one base, and runs as an unprivileged user without the build', () => {
    const stages = dockerfile.split(/^FROM /m).slice(1);
    expect(stages).toHaveLength(3);
    for (const stage of stages) expect(stage).toMatch(/^node:20-bookworm-slim\b/);
    const last = stages.at(-1) ?? '';
    expect(last).toMatch(/^USER node$/m);
    expect(last).not.toMatch(/^RUN|COPY \. /m);
    expect(dockerfile.match(/npm ci [^|]*\|\| npm install --no-save/g)).toHaveLength(2);
  });

  test('is built from all that the processes are made of, and from nothing else', () => {
    const allowed = allowedInBuild();
    const needed = new Set(
      [
        'api/main.ts',
        'worker/main.ts',
        'worker/bundle.ts',
        'catalogue/main.ts',
        'workflows/index.ts',
      ].flatMap(roomsReachedFrom),
    );
    expect(allowed.filter((name) => !name.includes('.')).toSorted()).toEqual([...needed].toSorted());
    for (const file of [
      'package.json',
      'package-lock.json',
      '.npmrc',
      'tsconfig.json',
      'local/bootstrap.mjs',
    ])
      expect(allowed).toContain(file);
  });
});

/** The rooms of a file and of all that it imports, whose imports are followed too. */
function roomsReachedFrom(entry: string): string[] {
  const seen = new Set<string>();
  const queue = [entry];
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    if (seen.has(file)) continue;
    seen.add(file);
    const source = readFileSync(path.join(root, file), 'utf8');
    for (const [, target = ''] of source.matchAll(/(?:from|import\() ?'(\.[^']+)\.js'/g))
      queue.push(`${path.join(path.dirname(file), target)}.ts`);
  }
  return [...seen].map((file) => file.split(path.sep)[0] ?? '');
}
