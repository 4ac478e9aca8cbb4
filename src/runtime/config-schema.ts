import type { ZodType } from 'zod';

/** The part of a zod definition that the reader of configuration looks at. */
interface Definition {
  readonly type: string;
  readonly innerType?: ZodType;
  readonly in?: ZodType;
  readonly out?: ZodType;
  readonly element?: ZodType;
  readonly valueType?: ZodType;
  readonly options?: readonly ZodType[];
  readonly shape?: Readonly<Record<string, ZodType>>;
}

const definitionOf = (schema: ZodType): Definition => schema.def;

/** Strips optional, default, readonly and pipes down to what the file itself holds. */
export const innerSchema = (schema: ZodType): ZodType => {
  const definition = definitionOf(schema);
  if (definition.innerType !== undefined) return innerSchema(definition.innerType);
  if (definition.type === 'pipe' && definition.in !== undefined) {
    const isPreprocess = definitionOf(definition.in).type === 'transform';
    return innerSchema(isPreprocess && definition.out !== undefined ? definition.out : definition.in);
  }
  return schema;
};

/** The keys a mapping at this place may have; undefined where any key is legal or there is no mapping. */
export const knownKeys = (schema: ZodType): ReadonlyMap<string, ZodType> | undefined => {
  const inner = innerSchema(schema);
  const definition = definitionOf(inner);
  if (definition.shape !== undefined) return new Map(Object.entries(definition.shape));
  if (definition.options === undefined) return undefined;
  const keys = new Map<string, ZodType>();
  for (const option of definition.options) {
    for (const [key, value] of knownKeys(option) ?? []) keys.set(key, value);
  }
  return keys.size === 0 ? undefined : keys;
};

/** The schema of the items of a list, or of the values of a free mapping. */
export const itemSchema = (schema: ZodType): ZodType | undefined => {
  const definition = definitionOf(innerSchema(schema));
  if (definition.element !== undefined) return definition.element;
  if (definition.valueType !== undefined) return definition.valueType;
  for (const option of definition.options ?? []) {
    const found = itemSchema(option);
    if (found !== undefined) return found;
  }
  return undefined;
};

/** True where the file holds plain text, so that an override is not read as YAML. */
export const isTextSchema = (schema: ZodType): boolean => {
  const definition = definitionOf(innerSchema(schema));
  return definition.type === 'string' || definition.type === 'enum';
};

/** Insertions, deletions and replacements from one text to the other (Levenshtein), for suggestions only. */
export const editsBetween = (left: string, right: string): number => {
  let previous = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let row = 1; row <= left.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= right.length; column += 1) {
      const same = left[row - 1] === right[column - 1] ? 0 : 1;
      current.push(
        Math.min(
          (current[column - 1] ?? 0) + 1,
          (previous[column] ?? 0) + 1,
          (previous[column - 1] ?? 0) + same,
        ),
      );
    }
    previous = current;
  }
  return previous[right.length] ?? left.length;
};

/** The known key that an unknown one was probably meant to be. */
export const nearestKey = (unknown: string, known: Iterable<string>): string | undefined => {
  let best: { key: string; far: number } | undefined;
  for (const key of known) {
    const far = editsBetween(unknown.toLowerCase(), key);
    if (best === undefined || far < best.far) best = { key, far };
  }
  if (best === undefined || best.far > Math.max(2, Math.floor(unknown.length / 3))) return undefined;
  return best.key;
};
