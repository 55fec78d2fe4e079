/** Composes what the activities need from the configuration. */
import type { Logger } from 'pino';
import type { ActivityDependencies } from '../activities/dependencies.js';
import type { Catalogue } from '../catalogue/index.js';
import type { CellName } from '../domain/ids.js';
import type { Manifest } from '../domain/manifest.js';
import { deriveContextKey, FIRST_CONTEXT_KEY } from '../keys/context-key.js';
import { createSecretBox } from '../keys/sealed-secret.js';
import { createBlueprint } from '../tenancy/blueprint.js';
import type { ConnectOptions } from '../tenancy/cell-connections.js';
import { createCellRegistry } from '../tenancy/cell-registry.js';
import { tryEnforcement } from '../tenancy/mongo/enforcement.js';
import { collectionLayouts } from '../tenancy/mongo/layout.js';
import { createWarmClients } from '../tenancy/mongo/warm-clients.js';

export interface ComposeOptions extends ConnectOptions {
  readonly catalogue: Catalogue;
  readonly manifest: Manifest;
  /** 32 bytes */
  readonly rootKey: Buffer;
  /** Ids of the context keys that are valid in each cell, oldest first. The first one by default. */
  readonly contextKeyIds?: readonly number[];
  /** For tests, which know what their server refuses. By default it is tried. */
  readonly tryEnforcement?: typeof tryEnforcement;
  readonly log: Logger;
}

export interface Composition {
  readonly dependencies: ActivityDependencies;
  close(): Promise<void>;
}

export function compose({
  catalogue,
  manifest,
  rootKey,
  contextKeyIds,
  ...rest
}: ComposeOptions): Composition {
  const secrets = createSecretBox(rootKey);
  const layouts = collectionLayouts(manifest);
  const blueprint = createBlueprint(manifest, secrets);
  const warmClients = createWarmClients();
  const shared = { catalogue, manifest, secrets, layouts, blueprint, log: rest.log };
  const contextKeys = (cell: CellName) =>
    (contextKeyIds ?? [FIRST_CONTEXT_KEY]).map((id) => deriveContextKey(rootKey, cell, id));
  const cells = createCellRegistry({ tryEnforcement, ...shared, ...rest, contextKeys });
  return {
    dependencies: { ...shared, cells, warmClients },
    async close() {
      await Promise.all([warmClients.close(), cells.close()]);
    },
  };
}
