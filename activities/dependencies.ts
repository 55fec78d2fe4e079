/** What the activities work with; composed by the worker, so that a test can compose its own. */
import type { Logger } from 'pino';
import type { Catalogue } from '../catalogue/index.js';
import type { Blueprint } from '../catalogue/admission.js';
import type { Manifest } from '../domain/manifest.js';
import type { SecretBox } from '../keys/sealed-secret.js';
import type { CellRegistry } from '../tenancy/cell-registry.js';
import type { CollectionLayout } from '../tenancy/mongo/layout.js';
import type { WarmClients } from '../tenancy/mongo/warm-clients.js';

export interface ActivityDependencies {
  readonly catalogue: Catalogue;
  readonly cells: CellRegistry;
  readonly manifest: Manifest;
  readonly layouts: readonly CollectionLayout[];
  readonly blueprint: Blueprint;
  readonly secrets: SecretBox;
  readonly warmClients: WarmClients;
  readonly log: Logger;
}
