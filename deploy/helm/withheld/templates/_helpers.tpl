{{- define "withheld.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "withheld.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "withheld.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "withheld.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "withheld.selector" -}}
app.kubernetes.io/name: {{ include "withheld.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "withheld.labels" -}}
{{ include "withheld.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "withheld.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "withheld.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "withheld.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end }}

{{/* Variables that refer to a Secret; nothing secret is in what Helm keeps. */}}
{{- define "withheld.fromSecret" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret.name }}
      key: {{ .secret.key }}
{{- end }}

{{/* Which journal, and how to reach it: for the service, and for what makes the journal. */}}
{{- define "withheld.journalEnv" -}}
- { name: WITHHELD_JOURNAL, value: {{ .Values.journal.url | quote }} }
- { name: WITHHELD_REDIS_NAMESPACE, value: {{ .Values.journal.namespace | quote }} }
{{- if not (kindIs "invalid" .Values.journal.waitReplicas) }}
- { name: WITHHELD_REDIS_WAIT_REPLICAS, value: {{ .Values.journal.waitReplicas | quote }} }
{{- end }}
- { name: WITHHELD_REDIS_DURABILITY, value: {{ .Values.journal.durability }} }
- { name: WITHHELD_REDIS_TIMEOUT, value: {{ .Values.journal.timeout }} }
{{- with .Values.redis }}
{{- if .user }}
- { name: WITHHELD_REDIS_USER, value: {{ .user | quote }} }
{{- end }}
{{- if .passwordSecret.name }}
{{- include "withheld.fromSecret" (dict "name" "WITHHELD_REDIS_PASSWORD" "secret" .passwordSecret) | nindent 0 }}
{{- end }}
{{- if .sentinelUser }}
- { name: WITHHELD_REDIS_SENTINEL_USER, value: {{ .sentinelUser | quote }} }
{{- end }}
{{- if .sentinelPasswordSecret.name }}
{{- include "withheld.fromSecret" (dict "name" "WITHHELD_REDIS_SENTINEL_PASSWORD" "secret" .sentinelPasswordSecret) | nindent 0 }}
{{- end }}
{{- if .tls.secretName }}
{{- if .tls.caKey }}
- { name: WITHHELD_REDIS_CA, value: "/etc/withheld/redis-tls/{{ .tls.caKey }}" }
{{- end }}
{{- if .tls.certKey }}
- { name: WITHHELD_REDIS_CERT, value: "/etc/withheld/redis-tls/{{ .tls.certKey }}" }
- { name: WITHHELD_REDIS_KEY, value: "/etc/withheld/redis-tls/{{ required "redis.tls.keyKey goes with certKey" .tls.keyKey }}" }
{{- end }}
{{- end }}
{{- end }}
{{- end }}
