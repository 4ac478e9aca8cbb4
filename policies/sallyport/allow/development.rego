# METADATA
# title: The allow-list that `sallyport up` generates data for
# description: >-
#   Allows exactly the targets named in data.sallyport.development.publish and streams to them by the
#   connection's own Send keys. Without that data it allows nothing.
package sallyport.allow

# METADATA
# title: Targets named when the installation was started
# custom: {id: development-publish, owner: sallyport up, expires: never}
publish[name] contains rego.metadata.rule() if {
	name := input.connection.name
	some target in data.sallyport.development.publish[name]
	target.host == input.target.host
	target.port == input.target.port
}

# METADATA
# title: The connection's own keys, none of the namespace
# custom: {id: development-stream, owner: sallyport up, expires: never}
stream[name] contains rego.metadata.rule() if {
	name := input.connection.name
	data.sallyport.development.publish[name]
	input.key.kind == "sas"
	input.key.auth_rule == input.key.principal
	not contains(input.key.principal, "/")
}

# METADATA
# title: A connection that is published to show what a denial looks like
# custom: {id: development-forbidden, owner: sallyport up}
deny[name] contains rego.metadata.rule() if {
	input.action == "stream"
	some name in data.sallyport.development.forbidden
	name == input.connection.name
}
