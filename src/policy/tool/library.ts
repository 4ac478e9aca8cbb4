import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Diagnostic } from './diagnostic.ts';
import { SHIPPED_POLICIES } from './paths.ts';
import { ignoredRegoFiles, POLICY_ROOT, regoFiles } from './sources.ts';

/** Packages that authors never write: `sallyport` itself and everything in it but `allow` and data. */
export const LIBRARY_FILES: readonly string[] = [
  'sallyport/sallyport.rego',
  'sallyport/decision/decision.rego',
  'sallyport/entitlement/entitlement.rego',
  'sallyport/guard/guard.rego',
  'sallyport/request/request.rego',
  'sallyport/verdict/verdict.rego',
];

const PACKAGE = /^package\s+([\w.]+)\s*(?:#.*)?$/;

/** The first statement of a module is its package; a later line that looks like one may be inside a text. */
const packageOf = (lines: readonly string[]): { name: string; line: number } => {
  const index = lines.findIndex((line) => line.trim() !== '' && !line.trimStart().startsWith('#'));
  return { name: PACKAGE.exec(lines[index] ?? '')?.[1] ?? '', line: index + 1 };
};

const at = (file: string, line: number, message: string): Diagnostic => ({
  file,
  line,
  column: 1,
  rule: 'library',
  message,
});

const AUTHOR_PACKAGE = /^sallyport\.allow(_test)?$/;

/**
 * What is wrong with the library part of a policy directory: a file missing or not byte for byte the shipped
 * one, or an author's file that declares a package of the library and could override it.
 */
export const checkLibrary = (directory: string): Diagnostic[] => {
  const wrong: Diagnostic[] = [];
  for (const file of LIBRARY_FILES) {
    const own = join(directory, file);
    if (!existsSync(own)) wrong.push(at(file, 1, 'library file is missing'));
    else if (!readFileSync(own).equals(readFileSync(join(SHIPPED_POLICIES, file)))) {
      wrong.push(at(file, 1, 'library file differs from the shipped one'));
    }
  }
  for (const file of ignoredRegoFiles(directory)) {
    wrong.push(at(file, 1, 'opa leaves out folders of this name: its rules would not count; move the file'));
  }
  for (const file of regoFiles(directory)) {
    if (LIBRARY_FILES.includes(file)) continue;
    if (!file.startsWith(`${POLICY_ROOT}/`)) {
      wrong.push(at(file, 1, `rego outside of '${POLICY_ROOT}/' would be compiled with it; move the file`));
    }
    const { name, line } = packageOf(readFileSync(join(directory, file), 'utf8').split('\n'));
    if (!AUTHOR_PACKAGE.test(name)) {
      wrong.push(
        at(file, line, `package '${name}' belongs to the library; author rules go to 'sallyport.allow'`),
      );
    }
  }
  return wrong;
};
