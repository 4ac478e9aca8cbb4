import { posix } from 'node:path';
import { nearestKey } from '../../runtime/index.ts';
import type { Diagnostic } from './diagnostic.ts';
import { IGNORED_FOLDERS, listFiles, POLICY_ROOT } from './sources.ts';

const VECTORS = 'vectors';
/** Of what is meant to be read; pages, scripts and archives may lie anywhere. */
const SOURCE = /\.(?:rego|ya?ml|json)$/i;
/** What OPA takes as data, wherever it stands; documents of other names it leaves alone. */
const DATA = /(?:^|\/)data\.(?:json|ya?ml)$/;
/** Beside the policy: the schemas are for editors, the rest is of the whole directory or a shipped one. */
const NOT_POLICY: ReadonlySet<string> = new Set([
  'schemas',
  'dist',
  'examples',
  'capabilities.json',
  'node_modules',
]);

const isRead = (file: string): boolean => {
  const [top = '', ...rest] = file.split('/');
  if (NOT_POLICY.has(top) || file.split('/').some((part) => part.startsWith('.'))) return true;
  if (top === VECTORS) return rest.length === 1 && /\.ya?ml$/.test(file);
  // Rego in a folder that OPA leaves out is an error already, and so is Rego outside of the root.
  if (file.endsWith('.rego')) return true;
  return DATA.test(file) && !file.split('/').some((part) => IGNORED_FOLDERS.has(part));
};

const hintFor = (file: string): string => {
  const [top = '', ...rest] = file.split('/');
  if (rest.length === 0) return `vectors go to ${VECTORS}/, data to ${POLICY_ROOT}/NAME/data.yaml`;
  if (top === VECTORS) return `vectors are ${VECTORS}/*.yaml, without folders in it`;
  if (top === POLICY_ROOT) return 'data is read from files named data.yaml or data.json alone';
  const meant = nearestKey(top, [VECTORS, POLICY_ROOT]);
  return meant === undefined ? `only ${POLICY_ROOT}/ and ${VECTORS}/ are read` : `did you mean ${meant}/?`;
};

/** Warnings: what looks like policy and is neither compiled, loaded nor asked, a folder at a time. */
export const lintUnread = (directory: string): Diagnostic[] => {
  const folders = new Map<string, string[]>();
  for (const file of listFiles(directory).filter((name) => SOURCE.test(name) && !isRead(name))) {
    const folder = posix.dirname(file);
    folders.set(folder, [...(folders.get(folder) ?? []), file]);
  }
  return [...folders].map(([folder, files]) => {
    const [file = '', ...others] = files;
    const more =
      others.length === 0
        ? ''
        : `, nor ${others.length === 1 ? 'is one more' : `are ${String(others.length)} more`} of ${folder === '.' ? 'this folder' : `${folder}/`}`;
    const message = `${file} is not read${more}: ${hintFor(file)}`;
    return { file, line: 1, column: 1, rule: 'unread', message, severity: 'warning' };
  });
};
