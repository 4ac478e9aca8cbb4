import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { Diagnostic } from './diagnostic.ts';
import { runOpa } from './opa.ts';
import { SHIPPED_POLICIES } from './paths.ts';
import { locateVectors } from './vectors.ts';

/** OPA knows JSON Schema, and is there whenever a directory is checked. */
const QUERY =
  '{format_int(i, 10): errors | some i, one in input.inputs; [ok, errors] := json.match_schema(one, input.schema); not ok}';
const ROOT = '(Root)';

const printedSchema = z.object({
  result: z.array(
    z.object({
      expressions: z.array(
        z.object({
          value: z.record(z.string(), z.array(z.object({ desc: z.string(), field: z.string() }))),
        }),
      ),
    }),
  ),
});

/**
 * Vectors whose input no agent would send, because it is not of the schema: what they show would never be asked.
 * @throws AppError ERR_POLICY_BUILD when OPA does not run
 */
export const lintVectorInputs = async (opa: string, directory: string): Promise<Diagnostic[]> => {
  const { vectors } = locateVectors(directory);
  if (vectors.length === 0) return [];
  const schema: unknown = JSON.parse(readFileSync(join(SHIPPED_POLICIES, 'schemas/input.json'), 'utf8'));
  const scratch = mkdtempSync(join(tmpdir(), 'sallyport-vectors-'));
  try {
    const file = join(scratch, 'input.json');
    writeFileSync(file, JSON.stringify({ schema, inputs: vectors.map(({ vector }) => vector.input) }));
    const printed = await runOpa(opa, ['eval', '-f', 'json', '-i', file, QUERY], scratch);
    const wrong = printedSchema.parse(JSON.parse(printed)).result[0]?.expressions[0]?.value ?? {};
    return vectors.flatMap(({ vector, file: name, placeIn }, index) =>
      (wrong[String(index)] ?? []).map(({ desc, field }) => {
        const path =
          field === ROOT ? [] : field.split('.').map((part) => (/^\d+$/.test(part) ? Number(part) : part));
        const where = ['input', ...path].join('.');
        return {
          file: name,
          ...placeIn(['input', ...path]),
          rule: 'vector-input',
          message: `vector '${vector.name}': ${where}: ${desc}`,
        };
      }),
    );
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};
