export { CLAIMS, type Claim, expandClaims, isClaim } from './claim.ts';
export {
  type ConnectionString,
  formatConnectionString,
  MAX_CONNECTION_STRING_LENGTH,
  parseConnectionString,
} from './connection-string.ts';
export type { IdentityErrorCode } from './errors.ts';
export { isKeyId, keyIdOf, newKeyText } from './key.ts';
export {
  isManagementTokenId,
  isOneTimeCode,
  type NewManagementToken,
  newManagementToken,
  parseManagementToken,
  type Role,
  ROLES,
  roleAtLeast,
} from './management-token.ts';
export {
  isAuthRuleName,
  isConnectionName,
  MAX_AUTH_RULE_NAME_LENGTH,
  MAX_CONNECTION_NAME_LENGTH,
} from './name.ts';
export { SAS_TOKEN_LIFE_MS, type SasCredential, sasCredential } from './sas-credential.ts';
export { resourceMatches, type WantedResource } from './sas-resource.ts';
export {
  createSasToken,
  MAX_SAS_TOKEN_LENGTH,
  parseSasToken,
  type SasToken,
  type SasTokenRequest,
  verifySasToken,
} from './sas-token.ts';
export {
  agentSubjectIds,
  connectionSubjectId,
  endsLink,
  isAgentSubject,
  type LinkStanding,
  noticeFieldsOf,
  type RevocationSubject,
  standingIdsOf,
  subjectIdOf,
  subjectOfNotice,
} from './revocation-subject.ts';
export {
  createIdentityRequest,
  createNamespaceAuthority,
  IDENTITY_LIFE_MS,
  type IdentityRequest,
  type IssueOptions,
  issueIdentityCertificate,
  keyOfRequest,
  MAX_REQUEST_CHARS,
} from './authority/authority.ts';
export {
  codeDigest,
  ENROLMENT_CODE_LIFE_MS,
  type EnrolmentCode,
  MAX_CODE_CHARS,
  newEnrolmentCode,
  parseEnrolmentCode,
} from './authority/enrolment-code.ts';
export { type Identity, type IdentityKind, MAX_SCOPE_CONNECTIONS } from './authority/identity-names.ts';
export {
  IDENTITY_CLOCK_SKEW_MS,
  readAuthority,
  type VerifiedIdentity,
  verifyIdentity,
} from './authority/verify-identity.ts';
