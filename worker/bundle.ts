/** The workflows' bundle: built once, ahead, so that a worker starts without webpack. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type BundleOptions, bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { version as SDK_VERSION } from '@temporalio/workflow/package.json';

/** Beside the compiled code, made by `npm run build`. */
export const BUNDLE_PATH = join(__dirname, '..', 'workflow-bundle.js');

/** Builds it unless the one that is there was made from the same sources. */
export async function ensureBundle(path = BUNDLE_PATH): Promise<void> {
  const hash = sourceHash();
  const note = `${path}.hash`;
  if (existsSync(path) && existsSync(note) && readFileSync(note, 'utf8') === hash) return;
  await buildBundle(path);
  await writeFile(note, hash);
}

async function buildBundle(path: string): Promise<void> {
  const { code } = await bundleWorkflowCode(bundling(require.resolve('../workflows/index')));
  await mkdir(dirname(path), { recursive: true });
  // Renamed into place: a worker never reads half a bundle.
  await writeFile(`${path}.${process.pid}`, code);
  await rename(`${path}.${process.pid}`, path);
}

/**
 * How workflows are bundled. Their modules hold no state, so they are evaluated once for each thread and shared by its
 * runs, frozen; the SDK would evaluate them anew for each run.
 */
export const bundling = (workflowsPath: string): BundleOptions => ({
  workflowsPath,
  preloadModules: [workflowsPath],
  logger: new DefaultLogger('WARN'),
});

/** @throws Error when the bundle was not built */
export function findBundle(path = BUNDLE_PATH): { codePath: string } {
  if (!existsSync(path)) throw new Error('the workflow bundle is not there: run `npm run build`');
  return { codePath: path };
}

/** Of what goes into the bundle: our own workflows and vocabulary, how they are bundled, and the SDK. */
function sourceHash(): string {
  const hash = createHash('sha256').update(SDK_VERSION).update(readFileSync(__filename));
  for (const room of ['workflows', 'domain']) {
    const folder = join(__dirname, '..', room);
    for (const file of readdirSync(folder).toSorted()) {
      if (/\.(js|ts)$/.test(file)) hash.update(file).update(readFileSync(join(folder, file)));
    }
  }
  return hash.digest('hex');
}

if (require.main === module) {
  buildBundle(process.argv[2] ?? BUNDLE_PATH).catch((error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    process.exitCode = 1;
  });
}
