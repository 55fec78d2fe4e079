/** Documents of a tenant's collections, as types: from the manifest's fields, where its literal is known. */
import type { Binary, Document, Double, Int32, Long, ObjectId, UUID } from 'mongodb';
import type { FieldType } from '../../domain/manifest.js';

/** As much of a manifest as says what documents look like; a literal declared `as const` has it whole. */
export interface MongoDeclaration {
  readonly mongo: {
    readonly collections: Readonly<
      Record<
        string,
        {
          readonly fields: Readonly<
            Record<string, { readonly type: FieldType; readonly required?: boolean }>
          >;
        }
      >
    >;
  };
}

/**
 * A product adds its manifest here once, and every `collection(name)` is typed by it:
 *
 *     declare module 'tenantry' { interface ProductTypes { manifest: typeof manifest } }
 */
// oxlint-disable-next-line typescript/no-empty-interface, typescript/no-empty-object-type -- it is there to be added to
export interface ProductTypes {}

export type ProductManifest = ProductTypes extends { readonly manifest: infer M extends MongoDeclaration }
  ? M
  : MongoDeclaration;

export type CollectionName<M extends MongoDeclaration> = Extract<keyof M['mongo']['collections'], string>;

export type DocumentId = string | number | ObjectId | UUID;

interface FieldValues {
  string: string;
  int: number;
  /** The driver gives a number where it is exact, beyond 2^53 a Long. */
  long: number | Long;
  double: number;
  bool: boolean;
  date: Date;
  object: Record<string, unknown>;
  array: unknown[];
  uuid: UUID;
}

type Fields<
  M extends MongoDeclaration,
  Name extends CollectionName<M>,
> = M['mongo']['collections'][Name]['fields'];
type Optional<F> = {
  [K in keyof F]: F[K] extends { readonly required: false } ? K : never;
}[keyof F];
type ValueOf<F> = F extends { readonly type: infer T extends FieldType } ? FieldValues[T] : never;

/** A document as it is read. Where the manifest's literal is not known, any document. */
export type DocumentOf<
  M extends MongoDeclaration,
  Name extends CollectionName<M>,
> = string extends keyof Fields<M, Name>
  ? Document & { _id: DocumentId }
  : Flat<
      { _id: DocumentId } & {
        -readonly [K in Exclude<keyof Fields<M, Name>, Optional<Fields<M, Name>>>]: ValueOf<
          Fields<M, Name>[K]
        >;
      } & { -readonly [K in Optional<Fields<M, Name>>]?: ValueOf<Fields<M, Name>[K]> }
    >;

type Flat<T> = { [K in keyof T]: T[K] };

/** As it may be written: numbers with their BSON type, since 1 is an int and a field may be a double. */
export type Storable<T> = { [K in keyof T]: StorableValue<T[K]> };
type StorableValue<V> = number extends V ? V | Int32 | Long | Double : UUID extends V ? V | Binary : V;

/** Without `_id` the driver makes one. */
export type NewDocument<T> = string extends keyof T
  ? Document
  : Omit<Storable<T>, '_id'> & { _id?: DocumentId };
