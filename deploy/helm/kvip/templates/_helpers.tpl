{{/* A setting as text; sprig would write the number 1000000 of a values file as 1e+06. */}}
{{- define "kvip.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ printf "%.0f" . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{/* Where /metrics listens: host:port, or "off". */}}
{{- define "kvip.listen" -}}
{{ get .Values.settings "metrics-address" | default ":2112" }}
{{- end }}

{{/* The host part of that. */}}
{{- define "kvip.host" -}}
{{ regexReplaceAll "^\\[?(.*?)\\]?:[0-9]+$" (include "kvip.listen" .) "$1" }}
{{- end }}

{{/* The port of /metrics, for others than this node; fails where they reach none. */}}
{{- define "kvip.metricsPort" -}}
{{- $host := include "kvip.host" . }}
{{- if or (has $host (list "off" "localhost" "::1")) (hasPrefix "127." $host) }}
{{- fail (printf "settings.metrics-address is %s: nobody outside the node reads metrics there; set it to an address that Prometheus reaches, or leave serviceMonitor and networkPolicy off" (include "kvip.listen" .)) }}
{{- end }}
{{- regexFind "[0-9]+$" (include "kvip.listen" .) }}
{{- end }}

{{/* "true" where the Leases of Services are kept, which may be in any namespace. */}}
{{- define "kvip.perService" -}}
{{- $settings := .Values.settings }}
{{- if or (eq (get $settings "election" | toString) "per-service") (eq (get $settings "per-service-on-demand" | toString) "true") }}true{{ end }}
{{- end }}

{{/* What the daemon watches of Services. */}}
{{- define "kvip.rules.read" -}}
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
{{- end }}

{{/* What it writes of them; begins with a new line where it is not empty. */}}
{{- define "kvip.rules.write" }}
{{- $settings := .Values.settings }}
{{- if ne (get $settings "disable-service-updates" | toString) "true" }}
- apiGroups: [""]
  resources: [services/status]
  verbs: [patch]
{{- if eq (get $settings "vip-host-annotation" | toString) "true" }}
- apiGroups: [""]
  resources: [services]
  verbs: [patch]
{{- end }}
{{- end }}
{{- end }}

{{- define "kvip.rules.events" -}}
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}

{{- define "kvip.rules.leases" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, list, watch, create, update]
{{- end }}

{{- define "kvip.subjects" -}}
- kind: ServiceAccount
  name: kvip
  namespace: {{ .Release.Namespace }}
{{- end }}
