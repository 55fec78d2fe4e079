/**
 * Connections that outlive their request. What the tenant may do was looked at when each was opened. Once that has
 * changed, the connection is cut, and a client that comes back is looked at anew.
 */
import type { Duplex } from 'node:stream';
import type { TenantId } from '../../domain/ids.js';
import { accessOf } from '../context/access.js';
import type { Directory } from '../context/directory.js';
import { type AccessMode, outsideTenants, type Tenant } from '../context/tenant-context.js';

/** In case no change is heard of. Comes on top of the directory's staleness. */
const LOOK_EVERY_MS = 5_000;

export class KeptOpen {
  readonly #directory: Pick<Directory, 'find' | 'onChange'>;
  readonly #modes = new Map<TenantId, Map<Duplex, AccessMode>>();
  #clock: NodeJS.Timeout | undefined;

  constructor(directory: Pick<Directory, 'find' | 'onChange'>) {
    this.#directory = directory;
    directory.onChange(
      (tenantId) => void this.#look(tenantId === undefined ? [...this.#modes.keys()] : [tenantId]),
    );
  }

  add({ tenantId, mode }: Tenant, socket: Duplex): void {
    const its = this.#modes.get(tenantId) ?? new Map<Duplex, AccessMode>();
    this.#modes.set(tenantId, its.set(socket, mode));
    socket.once('close', () => {
      its.delete(socket);
      if (its.size === 0 && this.#modes.get(tenantId) === its) this.#modes.delete(tenantId);
      if (this.#modes.size > 0) return;
      clearInterval(this.#clock);
      this.#clock = undefined;
    });
    this.#clock ??= outsideTenants(() =>
      setInterval(() => void this.#look([...this.#modes.keys()]), LOOK_EVERY_MS).unref(),
    );
  }

  async #look(tenants: readonly TenantId[]): Promise<void> {
    for (const tenantId of tenants) {
      const its = this.#modes.get(tenantId);
      if (its === undefined) continue;
      const mode = await this.#modeOf(tenantId);
      if (mode === undefined) continue;
      for (const [socket, taken] of its) if (taken !== mode) socket.destroy();
    }
  }

  /** Undefined if the catalogue is away: the stores' own locks hold meanwhile. */
  async #modeOf(tenantId: TenantId): Promise<AccessMode | 'none' | undefined> {
    const asked = this.#directory.find(`id:${tenantId}`);
    const entry = await asked.catch(() => 'unknown' as const);
    if (entry === 'unknown') return undefined;
    try {
      return accessOf(entry);
    } catch {
      return 'none';
    }
  }
}
