/** The door of the workflows: what the worker's bundle is made from. */
export { isolationProbe } from './isolation-probe.js';
export { provisionBatch } from './provision-batch.js';
export { provisionTenant } from './provision-tenant.js';
