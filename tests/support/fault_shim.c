/* A PKCS#11 module that stands in front of another one and, when told so, makes it fail.
 *
 * Built and driven by fault_shim.py. The shim finds its orders in a file beside itself, named as itself with ".control"
 * at the end, which every process that loads the shim maps: so one driver commands them all, and counts their calls.
 * The declarations below are those of PKCS#11 2.40 that forwarding needs: every argument is a number or a pointer that
 * is handed on, except the outputs whose octets can be changed. There is no C_GetInterface, so callers that know
 * version 3 fall back to this list.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef unsigned char CK_BYTE;
typedef unsigned char CK_BBOOL;
typedef unsigned long CK_ULONG; /* PKCS#11 2.40 base 2: at least 32 bits; on Unix the compiler's unsigned long */
typedef CK_ULONG CK_RV;
typedef CK_ULONG CK_FLAGS;
typedef CK_ULONG CK_SLOT_ID;
typedef CK_ULONG CK_SESSION_HANDLE;
typedef CK_ULONG CK_OBJECT_HANDLE;
typedef CK_RV (*CK_NOTIFY)(CK_SESSION_HANDLE, CK_ULONG, void *);

#define CKR_OK 0x00000000UL
#define CKR_GENERAL_ERROR 0x00000005UL

#define SESSION CK_SESSION_HANDLE session
#define DATA CK_BYTE *data, CK_ULONG data_length
#define RESULT CK_BYTE *result, CK_ULONG *result_length

/* CK_FUNCTION_LIST in its order. F(name, parameters, arguments) is forwarded; O(...) has an output of octets, and a call
 * that only asks for its length is none of ours; C_GetFunctionList is the shim's own. The driver reads the names here. */
#define FUNCTIONS(F, O) \
    F(C_Initialize, (void *arguments), (arguments)) \
    F(C_Finalize, (void *reserved), (reserved)) \
    F(C_GetInfo, (void *info), (info)) \
    F(C_GetFunctionList, (void *list), (list)) \
    F(C_GetSlotList, (CK_BBOOL present, CK_SLOT_ID *slots, CK_ULONG *count), (present, slots, count)) \
    F(C_GetSlotInfo, (CK_SLOT_ID slot, void *info), (slot, info)) \
    F(C_GetTokenInfo, (CK_SLOT_ID slot, void *info), (slot, info)) \
    F(C_GetMechanismList, (CK_SLOT_ID slot, CK_ULONG *list, CK_ULONG *count), (slot, list, count)) \
    F(C_GetMechanismInfo, (CK_SLOT_ID slot, CK_ULONG type, void *info), (slot, type, info)) \
    F(C_InitToken, (CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG length, CK_BYTE *label), (slot, pin, length, label)) \
    F(C_InitPIN, (SESSION, CK_BYTE *pin, CK_ULONG length), (session, pin, length)) \
    F(C_SetPIN, (SESSION, CK_BYTE *old, CK_ULONG old_length, CK_BYTE *pin, CK_ULONG length), \
      (session, old, old_length, pin, length)) \
    F(C_OpenSession, (CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify, CK_SESSION_HANDLE *opened), \
      (slot, flags, application, notify, opened)) \
    F(C_CloseSession, (SESSION), (session)) \
    F(C_CloseAllSessions, (CK_SLOT_ID slot), (slot)) \
    F(C_GetSessionInfo, (SESSION, void *info), (session, info)) \
    O(C_GetOperationState, (SESSION, RESULT), (session, result, result_length)) \
    F(C_SetOperationState, (SESSION, DATA, CK_OBJECT_HANDLE encryption, CK_OBJECT_HANDLE authentication), \
      (session, data, data_length, encryption, authentication)) \
    F(C_Login, (SESSION, CK_ULONG user, CK_BYTE *pin, CK_ULONG length), (session, user, pin, length)) \
    F(C_Logout, (SESSION), (session)) \
    F(C_CreateObject, (SESSION, void *attributes, CK_ULONG count, CK_OBJECT_HANDLE *made), \
      (session, attributes, count, made)) \
    F(C_CopyObject, (SESSION, CK_OBJECT_HANDLE object, void *attributes, CK_ULONG count, CK_OBJECT_HANDLE *made), \
      (session, object, attributes, count, made)) \
    F(C_DestroyObject, (SESSION, CK_OBJECT_HANDLE object), (session, object)) \
    F(C_GetObjectSize, (SESSION, CK_OBJECT_HANDLE object, CK_ULONG *size), (session, object, size)) \
    F(C_GetAttributeValue, (SESSION, CK_OBJECT_HANDLE object, void *attributes, CK_ULONG count), \
      (session, object, attributes, count)) \
    F(C_SetAttributeValue, (SESSION, CK_OBJECT_HANDLE object, void *attributes, CK_ULONG count), \
      (session, object, attributes, count)) \
    F(C_FindObjectsInit, (SESSION, void *attributes, CK_ULONG count), (session, attributes, count)) \
    F(C_FindObjects, (SESSION, CK_OBJECT_HANDLE *objects, CK_ULONG most, CK_ULONG *count), \
      (session, objects, most, count)) \
    F(C_FindObjectsFinal, (SESSION), (session)) \
    F(C_EncryptInit, (SESSION, void *mechanism, CK_OBJECT_HANDLE key), (session, mechanism, key)) \
    O(C_Encrypt, (SESSION, DATA, RESULT), (session, data, data_length, result, result_length)) \
    O(C_EncryptUpdate, (SESSION, DATA, RESULT), (session, data, data_length, result, result_length)) \
    O(C_EncryptFinal, (SESSION, RESULT), (session, result, result_length)) \
    F(C_DecryptInit, (SESSION, void *mechanism, CK_OBJECT_HANDLE key), (session, mechanism, key)) \
    O(C_Decrypt, (SESSION, DATA, RESULT), (session, data, data_length, result, result_length)) \
    O(C_DecryptUpdate, (SESSION, DATA, RESULT), (session, data, data_length, result, result_length)) \
    O(C_DecryptFinal, (SESSION, RESULT), (session, result, result_length)) \
    F(C_DigestInit, (SESSION, void *mechanism), (session, mechanism)) \
    O(C_Digest, (SESSION, DATA, RESULT), (session, data, data_length, result, result_length)) \
    F(C_DigestUpdate, (SESSION, DATA), (session, data, data_length)) \
    F(C_DigestKey, (SESSION, CK_OBJECT_HANDLE key), (session, key)) \
    O(C_DigestFinal, (SESSION, RESULT), (session, result, result_length)) \
    F(C_SignInit, (SESSION, void *mechanism, CK_OBJECT_HANDLE key), (session, mechanism, key)) \
    O(C_Sign, (SESSION, DATA, RESULT), (session, data, data_length, result, result_length)) \
    F(C_SignUpdate, (SESSION, DATA), (session, data, data_length)) \
    O(C_SignFinal, (SESSION, RESULT), (session, result, result_length)) \
    F(C_SignRecoverInit, (SESSION, void *mechanism, CK_OBJECT_HANDLE key), (session, mechanism, key)) \
    O(C_SignRecover, (SESSION, DATA, RESULT), (session, data, data_length, result, result_length)) \
    F(C_VerifyInit, (SESSION, void *mechanism, CK_OBJECT_HANDLE key), (session, mechanism, key)) \
    F(C_Verify, (SESSION, DATA, CK_BYTE *signature, CK_ULONG length), (session, data, data_length, signature, length)) \
    F(C_VerifyUpdate, (SESSION, DATA), (session, data, data_length)) \
    F(C_VerifyFinal, (SESSION, CK_BYTE *signature, CK_ULONG length), (session, signature, length)) \
    F(C_VerifyRecoverInit, (SESSION, void *mechanism, CK_OBJECT_HANDLE key), (session, mechanism, key)) \
    O(C_VerifyRecover, (SESSION, DATA, RESULT), (session, data, data_length, result, result_length)) \
    O(C_DigestEncryptUpdate, (SESSION, DATA, RESULT), (session, data, data_length, result, result_length)) \
    O(C_DecryptDigestUpdate, (SESSION, DATA, RESULT), (session, data, data_length, result, result_length)) \
    O(C_SignEncryptUpdate, (SESSION, DATA, RESULT), (session, data, data_length, result, result_length)) \
    O(C_DecryptVerifyUpdate, (SESSION, DATA, RESULT), (session, data, data_length, result, result_length)) \
    F(C_GenerateKey, (SESSION, void *mechanism, void *attributes, CK_ULONG count, CK_OBJECT_HANDLE *made), \
      (session, mechanism, attributes, count, made)) \
    F(C_GenerateKeyPair, (SESSION, void *mechanism, void *public, CK_ULONG public_count, void *private, \
      CK_ULONG private_count, CK_OBJECT_HANDLE *public_made, CK_OBJECT_HANDLE *private_made), \
      (session, mechanism, public, public_count, private, private_count, public_made, private_made)) \
    O(C_WrapKey, (SESSION, void *mechanism, CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key, RESULT), \
      (session, mechanism, wrapping, key, result, result_length)) \
    F(C_UnwrapKey, (SESSION, void *mechanism, CK_OBJECT_HANDLE unwrapping, CK_BYTE *wrapped, CK_ULONG length, \
      void *attributes, CK_ULONG count, CK_OBJECT_HANDLE *made), \
      (session, mechanism, unwrapping, wrapped, length, attributes, count, made)) \
    F(C_DeriveKey, (SESSION, void *mechanism, CK_OBJECT_HANDLE base, void *attributes, CK_ULONG count, \
      CK_OBJECT_HANDLE *made), (session, mechanism, base, attributes, count, made)) \
    F(C_SeedRandom, (SESSION, DATA), (session, data, data_length)) \
    F(C_GenerateRandom, (SESSION, CK_BYTE *random, CK_ULONG length), (session, random, length)) \
    F(C_GetFunctionStatus, (SESSION), (session)) \
    F(C_CancelFunction, (SESSION), (session)) \
    F(C_WaitForSlotEvent, (CK_FLAGS flags, CK_SLOT_ID *slot, void *reserved), (flags, slot, reserved))

#define INDEX(name, parameters, arguments) INDEX_##name,
enum { FUNCTIONS(INDEX, INDEX) FUNCTION_COUNT };

#define POINTER(name, parameters, arguments) CK_RV (*name) parameters;
struct function_list {
    CK_BYTE version[2];
    FUNCTIONS(POINTER, POINTER)
};

/* The control file. fault_shim.py writes and reads the same layout: numbers of 64 bits, no padding. */

enum action { NOTHING, REFUSE, REFUSE_AFTER, HANG, CRASH, FLIP };

#define ALWAYS UINT64_MAX
#define PATH_OCTETS 1024
#define RECORDS 8192
#define RECORD_OCTETS 64

struct order {
    uint64_t calls;    /* so far, in all processes */
    uint64_t skip;     /* calls to let pass before the first that is hit */
    uint64_t times;    /* calls to hit, or ALWAYS */
    uint64_t action;
    uint64_t argument; /* a CKR code, or milliseconds */
};

struct record { /* one successful C_Sign: the octets that were signed, cut to 64 */
    uint64_t length;
    CK_BYTE data[RECORD_OCTETS];
};

struct control {
    char module[PATH_OCTETS];
    struct order orders[FUNCTION_COUNT];
    uint64_t signed_count;
    struct record signatures[RECORDS];
};

static struct control *control;
static struct function_list *real; /* of the module behind; its C_Sign goes through signed_by_module */
static CK_RV (*real_sign)(SESSION, DATA, RESULT);
static void *real_handle;

static int decrement(uint64_t *counter) {
    uint64_t seen = __atomic_load_n(counter, __ATOMIC_SEQ_CST);
    while (seen != 0)
        if (seen == ALWAYS
            || __atomic_compare_exchange_n(counter, &seen, seen - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return 1;
    return 0;
}

/* A hang ends early when the order is withdrawn. */
static void hang(const struct order *order) {
    const struct timespec slice = {0, 5000000};
    uint64_t milliseconds = order->argument;
    for (uint64_t passed = 0; passed < milliseconds; passed += 5) {
        if (__atomic_load_n(&order->action, __ATOMIC_SEQ_CST) != HANG)
            return;
        nanosleep(&slice, NULL);
    }
}

static enum action due(struct order *order) {
    enum action action = (enum action)__atomic_load_n(&order->action, __ATOMIC_SEQ_CST);
    if (action == NOTHING || decrement(&order->skip) || !decrement(&order->times))
        return NOTHING;
    if (action == HANG)
        hang(order);
    if (action == CRASH) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    return action;
}

static void remember(const CK_BYTE *data, CK_ULONG length) {
    uint64_t place = __atomic_fetch_add(&control->signed_count, 1, __ATOMIC_SEQ_CST) % RECORDS;
    struct record *record = &control->signatures[place];
    record->length = length;
    memcpy(record->data, data, length < RECORD_OCTETS ? length : RECORD_OCTETS);
}

/* What the module signed counts, also when the caller is then told otherwise. */
static CK_RV signed_by_module(SESSION, DATA, RESULT) {
    CK_RV outcome = real_sign(session, data, data_length, result, result_length);
    if (outcome == CKR_OK && result != NULL)
        remember(data, data_length);
    return outcome;
}

#define BEGIN(name, arguments) \
    struct order *order = &control->orders[INDEX_##name]; \
    __atomic_fetch_add(&order->calls, 1, __ATOMIC_SEQ_CST); \
    enum action action = due(order); \
    if (action == REFUSE) \
        return order->argument; \
    CK_RV outcome = real->name arguments; \
    if (action == REFUSE_AFTER && outcome == CKR_OK) \
        return order->argument;

#define FORWARDED(name, parameters, arguments) \
    static CK_RV shim_##name parameters { \
        BEGIN(name, arguments) \
        return outcome; \
    }

#define WITH_OUTPUT(name, parameters, arguments) \
    static CK_RV forwarded_##name parameters { \
        BEGIN(name, arguments) \
        if (action == FLIP && outcome == CKR_OK && *result_length > 0) \
            result[*result_length / 2] ^= 0x10; \
        return outcome; \
    } \
    static CK_RV shim_##name parameters { \
        return result == NULL ? real->name arguments : forwarded_##name arguments; \
    }

#define shim_C_GetFunctionList unused_C_GetFunctionList
__attribute__((unused)) static CK_RV unused_C_GetFunctionList(void *list);
FUNCTIONS(FORWARDED, WITH_OUTPUT)
#undef shim_C_GetFunctionList

CK_RV C_GetFunctionList(struct function_list **list);

#define ENTRY(name, parameters, arguments) .name = shim_##name,
#define shim_C_GetFunctionList (CK_RV(*)(void *))C_GetFunctionList
static struct function_list shim = {.version = {2, 40}, FUNCTIONS(ENTRY, ENTRY)};
#undef shim_C_GetFunctionList

static struct control *mapped(const char *path) {
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return NULL;
    void *found = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return found == MAP_FAILED ? NULL : found;
}

static int opened(void) {
    static struct function_list behind;
    char path[PATH_OCTETS];
    Dl_info self;
    CK_RV (*get_function_list)(struct function_list **);
    if (real != NULL)
        return 1;
    if (!dladdr((void *)opened, &self) || strlen(self.dli_fname) + sizeof ".control" > sizeof path)
        return 0;
    strcat(strcpy(path, self.dli_fname), ".control");
    control = mapped(path);
    if (control == NULL || (real_handle = dlopen(control->module, RTLD_NOW | RTLD_LOCAL)) == NULL)
        return 0;
    *(void **)&get_function_list = dlsym(real_handle, "C_GetFunctionList");
    if (get_function_list == NULL || get_function_list(&real) != CKR_OK)
        return 0;
    behind = *real;
    real_sign = real->C_Sign;
    behind.C_Sign = signed_by_module;
    real = &behind;
    return 1;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(struct function_list **list) {
    if (!opened())
        return CKR_GENERAL_ERROR;
    *list = &shim;
    return CKR_OK;
}

/* A module that is unloaded forgets everything; so must the one behind the shim. */
__attribute__((destructor)) static void unloaded(void) {
    if (real_handle != NULL)
        dlclose(real_handle);
    if (control != NULL)
        munmap(control, sizeof(struct control));
}
