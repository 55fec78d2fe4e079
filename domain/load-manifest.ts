/** Loads the product's manifest: the default export of a module, or the sample product's. */
import { resolve } from 'node:path';
import { defineManifest, type Manifest, type ManifestInput } from './manifest.js';

/** @param path of a compiled module or JSON file, relative to the working directory */
export async function loadManifest(path: string | undefined): Promise<Manifest> {
  const module: unknown =
    path === undefined ? await import('../manifest/support-desk.js') : await import(resolve(path));
  return defineManifest(defaultOf(module) as ManifestInput);
}

/** CommonJS seen through import() wraps the default export once more. */
function defaultOf(module: unknown): unknown {
  const outer =
    module !== null && typeof module === 'object' && 'default' in module ? module.default : module;
  return outer !== null && typeof outer === 'object' && 'default' in outer ? outer.default : outer;
}
