/** Cells: where tenants live. A row names each server by a reference to a secret and says how much it takes. */
import type { Pool, PoolClient } from 'pg';
import type { Refusal } from '../domain/contracts.js';
import type { CellName } from '../domain/ids.js';

/** What the MongoDB server of a cell was seen to refuse, and not to, when it was tried. */
export interface EnforcementTrial {
  readonly triedAt: string;
  readonly server: string;
  readonly refused: readonly string[];
  readonly notRefused: readonly string[];
}

export interface CellDeclaration {
  readonly name: CellName;
  /** Secret references: `env:NAME` or `file:/path`. */
  readonly postgresOwner: string;
  readonly postgresControl: string;
  readonly postgresRuntime: string;
  readonly postgresPurge: string;
  readonly mongo: string;
  readonly redis: string;
  readonly mongoEnforcement: 'server' | 'guard';
  /** Tenants. */
  readonly capacity: number;
}

export interface Cell extends CellDeclaration {
  readonly tenants: number;
  readonly trial: EnforcementTrial | null;
  readonly preparedAt: Date | null;
}

const COLUMNS = `name, postgres_owner AS "postgresOwner", postgres_control AS "postgresControl",
  postgres_runtime AS "postgresRuntime", postgres_purge AS "postgresPurge", mongo, redis,
  mongo_enforcement AS "mongoEnforcement", capacity, tenants, trial, prepared_at AS "preparedAt"`;

/** Prepared, and its MongoDB isolates or was knowingly accepted as it is. */
const TAKES_TENANTS = `prepared_at IS NOT NULL
  AND (mongo_enforcement = 'guard' OR jsonb_array_length(trial -> 'notRefused') = 0)`;

/** The name of the cell with most room for so many more, or of the one that is wanted; SQL. */
export const roomiest = (wanted: string, count: string): string =>
  `SELECT name FROM cell WHERE (${wanted}::text IS NULL OR name = ${wanted}) AND ${TAKES_TENANTS}
      AND tenants + ${count} <= capacity
    ORDER BY capacity - tenants DESC LIMIT 1`;

export function cellRepository(pool: Pool) {
  return {
    /** Makes or changes a cell's declaration; what lives in it is not touched. */
    async declare(cell: CellDeclaration): Promise<void> {
      await pool.query(
        `INSERT INTO cell (name, postgres_owner, postgres_control, postgres_runtime, postgres_purge, mongo, redis,
                           mongo_enforcement, capacity)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (name) DO UPDATE SET postgres_owner = $2, postgres_control = $3, postgres_runtime = $4,
           postgres_purge = $5, mongo = $6, redis = $7, mongo_enforcement = $8, capacity = $9`,
        [
          cell.name,
          cell.postgresOwner,
          cell.postgresControl,
          cell.postgresRuntime,
          cell.postgresPurge,
          cell.mongo,
          cell.redis,
          cell.mongoEnforcement,
          cell.capacity,
        ],
      );
    },

    async all(): Promise<Cell[]> {
      return (await pool.query<Cell>(`SELECT ${COLUMNS} FROM cell ORDER BY name`)).rows;
    },

    async find(name: CellName): Promise<Cell | undefined> {
      return (await pool.query<Cell>(`SELECT ${COLUMNS} FROM cell WHERE name = $1`, [name])).rows[0];
    },

    /** By the catalogue's clock, which is one for all workers. */
    async now(): Promise<Date> {
      const { rows } = await pool.query<{ now: Date }>('SELECT clock_timestamp() AS now');
      if (rows[0] === undefined) throw new TypeError('a statement without a row');
      return rows[0].now;
    },

    /**
     * Says that the cell's servers are ready for tenants, and what they were seen to enforce; the newest trial counts, whoever
     * comes with another one later. Its time is of the catalogue's clock; one that is still to come was told by another.
     */
    async prepared(name: CellName, trial: EnforcementTrial): Promise<void> {
      await pool.query(
        `UPDATE cell SET trial = $2::jsonb, prepared_at = clock_timestamp() WHERE name = $1
            AND (coalesce((trial ->> 'triedAt')::timestamptz, '-infinity') <= ($2::jsonb ->> 'triedAt')::timestamptz
                 OR (trial ->> 'triedAt')::timestamptz > clock_timestamp())`,
        [name, JSON.stringify(trial)],
      );
    },
  };
}

/**
 * Holds these cells, or all where one is undefined, in one order for everybody: two batches may ask for the same the other way
 * round. And before any tenant, as an admission does: its slug may have to wait for whoever gives it, and room, back.
 */
export async function holdCells(client: PoolClient, cells: readonly (string | undefined)[]): Promise<void> {
  const named = cells.filter((cell) => cell !== undefined);
  await client.query('SELECT FROM cell WHERE name = ANY ($1::text[]) OR $2 ORDER BY name FOR NO KEY UPDATE', [
    named,
    named.length < cells.length,
  ]);
}

/**
 * Takes room for `count` tenants in the named cell, or in the one with most room. The row's lock makes the count
 * exact; it is held for the rest of the admitting transaction.
 */
export async function placeInCell(
  client: PoolClient,
  wanted: string | undefined,
  count: number,
): Promise<{ cell: CellName } | Refusal> {
  const placed = await client.query<{ cell: CellName }>({
    name: 'cell-place',
    text: `UPDATE cell SET tenants = tenants + $2
            WHERE name = (${roomiest('$1', '$2')})
              AND tenants + $2 <= capacity
        RETURNING name AS cell`,
    values: [wanted ?? null, count],
  });
  const cell = placed.rows[0]?.cell;
  return cell === undefined ? whyNot(client, wanted) : { cell };
}

/**
 * Takes room for many: as much as there is, the roomiest cell first. Its caller holds them.
 * @returns how many found room in which cell, and why the others did not
 */
export async function placeMany(
  client: PoolClient,
  wanted: string | undefined,
  count: number,
): Promise<{ places: { cell: CellName; count: number }[]; refusal?: Refusal }> {
  const places: { cell: CellName; count: number }[] = [];
  for (let left = count; left > 0; ) {
    const room = await client.query<{ cell: CellName; room: number }>(
      `SELECT name AS cell, capacity - tenants AS room FROM cell
        WHERE ($1::text IS NULL OR name = $1) AND ${TAKES_TENANTS} AND tenants < capacity
        ORDER BY capacity - tenants DESC LIMIT 1`,
      [wanted ?? null],
    );
    const best = room.rows[0];
    if (best === undefined) return { places, refusal: await whyNot(client, wanted) };
    const taken = Math.min(best.room, left);
    await client.query('UPDATE cell SET tenants = tenants + $2 WHERE name = $1', [best.cell, taken]);
    places.push({ cell: best.cell, count: taken });
    left -= taken;
  }
  return { places };
}

async function whyNot(client: PoolClient, wanted: string | undefined): Promise<Refusal> {
  const { rows } = await client.query<Cell>(
    `SELECT ${COLUMNS} FROM cell WHERE $1::text IS NULL OR name = $1 ORDER BY name`,
    [wanted ?? null],
  );
  // Without its name, as it is a caller's word: a refusal is kept in the run's history.
  if (rows.length === 0 && wanted !== undefined) return { code: 'UNKNOWN_CELL', params: {} };
  if (rows.length === 0 || rows.some((cell) => cell.preparedAt === null))
    return { code: 'CELL_NOT_READY', params: {} };
  const open = rows.find(
    (cell) => cell.mongoEnforcement === 'server' && (cell.trial?.notRefused.length ?? 0) > 0,
  );
  if (open !== undefined)
    return {
      code: 'ISOLATION_NOT_ENFORCED',
      params: { cell: open.name, notRefused: (open.trial?.notRefused ?? []).join(', ') },
    };
  return { code: 'CELL_FULL', params: {} };
}
