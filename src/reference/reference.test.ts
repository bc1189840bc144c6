import assert from 'node:assert/strict'
import { test } from 'node:test'
import { canonical, familiar, parseReference, withDefaultTag } from './reference.ts'

test('names are read by the reference grammar of Docker', () => {
  for (const [text, full] of [
    ['busybox', 'docker.io/library/busybox:latest'], ['a/b:1.2', 'docker.io/a/b:1.2'], ['localhost/x', 'localhost/x:latest'], ['host:5000/a/b__c:v1', 'host:5000/a/b__c:v1'],
    ['index.docker.io/busybox', 'docker.io/library/busybox:latest'], ['[::1]:5000/x', '[::1]:5000/x:latest'],
  ] as const) {
    const reference = withDefaultTag(parseReference(text))
    assert.equal(canonical(reference), full)
    assert.deepEqual(parseReference(familiar(reference)), reference)
  }
})

test('what is no name is refused', () => {
  for (const text of ['', 'UPPER', 'a//b', 'a:', 'a:-x', 'a@sha256:12', 'a'.repeat(300), 'f'.repeat(64), '-a', 'a b']) assert.throws(() => parseReference(text), text)
})
